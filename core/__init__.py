"""What all other packages use: errors, configs, folders, tracking, progress, processes."""

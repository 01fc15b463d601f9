"""Public data sets as their authors publish them: where they are, how they are fetched, how they become the mirror's files."""

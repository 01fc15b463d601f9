"""One file per stage of dvc.yaml: `python -m stages.NAME` reads inputs, calls the packages below, writes outputs."""

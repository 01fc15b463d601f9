"""The pages of docs/reference/, generated from the configs and the commands: `python -m gradus.reference`."""

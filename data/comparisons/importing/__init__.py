"""From files of any format to a comparison collection."""

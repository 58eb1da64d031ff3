"""What a bug report needs of a run, in one file that tells nobody's name and nothing of the data."""

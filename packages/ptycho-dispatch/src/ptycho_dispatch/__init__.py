"""The `ptycho` command line: chooses, logs, reports and exits with a code; computes nothing itself."""

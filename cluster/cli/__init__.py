"""The command line `usher`: one file a group of commands, put together in `main.py`."""

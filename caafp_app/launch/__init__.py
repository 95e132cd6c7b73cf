"""Starting a run from one command: presets, the app's folder, a private SuperLink, its end."""

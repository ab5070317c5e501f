"""What every trainer needs, whatever its framework: the command's options, the config, the data, the folder of a run."""

"""From public face data sets to pairs for training: importers, the builder, checks."""

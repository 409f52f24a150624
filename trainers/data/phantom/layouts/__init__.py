"""One module a layout on disk, each with `write(folder, parameters)`, which returns how many images it wrote, and the label files."""

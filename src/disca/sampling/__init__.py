"""Many clips of one pipeline: what is wished for, which process makes it, and the folder that it is kept in."""

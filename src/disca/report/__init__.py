"""From records and clips to tables, pictures and one page. Reads files; needs no tensor library."""

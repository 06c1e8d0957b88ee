"""The site as frozen data, and the loader for the files users write."""

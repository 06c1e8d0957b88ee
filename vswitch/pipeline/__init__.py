"""The site as OpenFlow tables: compile, compare, and lead a cookie back to its rule."""

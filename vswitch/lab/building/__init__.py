"""Building a running lab from a site: namespaces, cables, switches, services, workers."""

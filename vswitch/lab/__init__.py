"""The Mininet lab: namespaces, guests, their services, life cycle."""

"""The whole system on one machine without Docker: servers, services, demo, seed and traffic."""

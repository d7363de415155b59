"""The pages people keep open: the users as this service knows them, and each change as it comes."""

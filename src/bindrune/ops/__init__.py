"""The operations, one file a family; one entry holds all that is known of an operation."""

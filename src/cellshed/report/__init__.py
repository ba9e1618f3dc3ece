"""Pictures, figures, tables and the report, all drawn from files and arrays."""

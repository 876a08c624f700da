"""Test the views and the report: events in, a query, the rows that must come out."""

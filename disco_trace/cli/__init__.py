"""Hold the command line: one file a verb, loaded only when the verb is typed."""

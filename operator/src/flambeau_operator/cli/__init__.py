"""The command line: `flambeau up`, `flambeau validate`; reads files and draws, decides nothing."""

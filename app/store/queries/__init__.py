"""Every SELECT, and the UPDATEs that compare and set; one noun a file. A query takes a session and commits nothing."""

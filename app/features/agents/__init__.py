"""The agent interface: Vezna's tools for the Model Context Protocol (MCP), at /mcp and by `vezna mcp`."""

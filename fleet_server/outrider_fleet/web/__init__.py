"""The fleet's pages: server-rendered, live, readable without scripts; docs/spec/web.md holds the rules."""

"""What ``agentmux doctor`` looks at. Nothing here loads a native library: that is done in a process of its own."""

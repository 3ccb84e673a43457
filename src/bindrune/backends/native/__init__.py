"""Programs for this machine's CPU: graphs to loop nests to LLVM to callables."""

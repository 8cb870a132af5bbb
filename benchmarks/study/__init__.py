"""Does the method work on photographs, and which part of it pays? The protocol is docs/study.md."""

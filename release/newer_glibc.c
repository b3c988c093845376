// What g++'s headers and runtime want of a glibc newer than 2.28, where it is built with one. Linked into each
// library, where nobody else sees it.

// "Not known to be single-threaded": shared pointers then count by atomic instructions.
char __libc_single_threaded = 0;

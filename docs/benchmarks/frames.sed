# Removes from collapsed stacks the frames of the runtime and of libraries, which show where threads wait rather than what
# they compute, and the numbers of threads.
s/ ([0-9]+)$/; \1/
s/;[^;]*(rayon|clone3|start_thread|\[unknown\]|__rust|tokio::|hyper|h2::|tower|axum|tonic|tracing)[^;]*//g
s/;<*\(?(std|core|alloc|futures)[^;]*//g
s/^([a-z0-9-]+)-[0-9]+;/\1;/
s/c3_cascade::(network::)?//g
s/; ([0-9]+)$/ \1/

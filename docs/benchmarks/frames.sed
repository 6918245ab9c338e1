# Filters collapsed stacks. Removes the frames of the async runtime and of libraries, because they show where threads
# wait and not what they compute. Removes the numbers from the names of threads.
s/ ([0-9]+)$/; \1/
s/;[^;]*(rayon|clone3|start_thread|\[unknown\]|__rust|tokio::|hyper|h2::|tower|axum|tonic|tracing)[^;]*//g
s/;<*\(?(std|core|alloc|futures)[^;]*//g
s/^([a-z0-9-]+)-[0-9]+;/\1;/
s/c3_cascade::(network::)?//g
s/; ([0-9]+)$/ \1/

//! The accept loop and one task per connection, above the routes only by a hyper `Service`.

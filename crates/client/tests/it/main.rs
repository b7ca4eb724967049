//! The client against servers of the tests' own: a scripted transport for what must happen in a certain
//! order, and real HTTP and TLS on loopback for the transport.

mod elections;
mod http;
mod informers;
mod script;

//! Does every adapter keep its port's promise? One file per port, one line per implementation.

mod provider;

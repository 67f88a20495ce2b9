//! A model checker drives the rules of rotation through every interleaving of a small world.

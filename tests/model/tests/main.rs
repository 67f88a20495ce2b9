//! The promises of the rules, checked in every state that the model reaches.

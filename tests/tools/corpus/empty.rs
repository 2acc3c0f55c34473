//! Nothing is built of this: the manifest beside it names what is fetched.

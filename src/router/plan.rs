//! Pure: from who is there and what is wanted to who watches what.

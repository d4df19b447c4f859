//! What the expansions of the attributes name. Not API: it changes without notice.

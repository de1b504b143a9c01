//! Raw data to what people look at: summaries, pictures, one page.

"""From a provider's file to a book. Read downwards: flow (what people do), work (what the process does), compare (SQL),
rows (one row to prices), mapping and guess (which column means what), sheets and vendors (files to rows).
"""

"""`disca demo`: a page that samples a prompt twice, with every step in full and accelerated, side by side.

What the page does is in plain functions and values; `page.py` and `serve.py` are all that knows gradio.
"""

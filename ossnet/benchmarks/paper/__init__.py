"""Networks trained in equal time on one store and compared on its cases, beside the paper's figures."""

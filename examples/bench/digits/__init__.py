"""The compiler on scikit-learn's handwritten digits, beside the tools that it is compared with."""

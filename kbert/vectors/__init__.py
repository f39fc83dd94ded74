"""Vectors of texts, of their words and characters, and of a vocabulary.

encoding    texts -> hidden states, batches sorted by length, in the input's order
sentences   one vector a text
tokens      one vector an occurrence of a character, piece or word
vocabulary  one vector a distinct character or word
whitening   vectors of equal variance in all directions
store       finished vectors on disk, from which a run resumes
formats     word2vec, npy, JSON lines, Parquet, TensorBoard's projector
flags       the options of all of it
run         a text file -> a vector file
"""

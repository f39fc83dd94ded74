"""Score the relevance of sentences to aspects, by the method that `--filter` names.

In: sentences in the graph. Out: a relevance for each sentence and question. A question is what sentences are selected for:
a coarse aspect, a row's term, or a single one for positional filters. Filters that learn do so before the classifier.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.config import ModelConfig
from kbert.data.table import Table
from kbert.data.tokenizer import Tokenizer
from kbert.errors import UsageError
from kbert.model.chunks import in_chunks
from kbert.model.encoder import Encoder
from kbert.tasks.aspect import labels, word_weights
from kbert.tasks.aspect.filtering import Filtering, filter_inputs, rows_of, said
from kbert.tasks.aspect.options import AspectOptions
from kbert.tasks.aspect.selecting import POSITIONAL, positional_scores
from kbert.tasks.aspect.sentences import Sentences
from kbert.tasks.aspect.text_filter import TextFilter
from kbert.tasks.base import Stage

log = logging.getLogger(__name__)

FILTER = "filter"  # the stage that trains the network
CHUNK_TOKENS = 16384  # maximum tokens of sentences in one pass through the network


class SentenceFilter:
    """A method of scoring sentences, with its weights.

    Args:
        config, tokenizer, options: the task's.
        wide: whether each aspect has a gold column.

    Attributes:
        how: the method, "auto" resolved.
        questions: number of questions.
        coarse_of: the question of each aspect; only one for rows' own terms.
        threshold: minimum relevance of a sentence to keep; None to keep any.

    Raises:
        UsageError: the network is requested but there is nothing it could learn from.
    """

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer, options: AspectOptions, wide: bool):
        self.config, self.tokenizer, self.options, self.wide = config, tokenizer, options, wide
        aspects, told = options.aspects, labels.NOT_MENTIONED in config.labels
        self.how: str = options.filter
        if self.how == "auto":
            self.how = "tfn" if aspects and told else "lexical"
        if self.how == "tfn" and not aspects:
            raise UsageError("--filter=tfn: the aspects must be known; list them in --aspect_names, or use --filter=lexical")
        if self.how == "tfn" and not told:
            raise UsageError(
                "--filter=tfn: no row is labelled -2 (not mentioned), and only from such does it learn which texts mention an "
                "aspect; use another --filter"
            )
        coarse = labels.coarse_aspects(aspects) if self.how not in POSITIONAL else ()
        self.questions = max(1, len(coarse))
        self.coarse_of = [coarse.index(aspect.coarse) if coarse else 0 for aspect in aspects]
        self.threshold = options.filter_threshold if self.how == "tfn" else None
        self.text_filter: TextFilter | None = None
        self.word_weights: word_weights.WordWeights | None = None
        self._encoder: Encoder | None = None
        self._taken = False  # weights come from another model and are not trained

    def attach(self, model: keras.Model, encoder: Encoder) -> None:
        """Create the weights and add them to the model, although they take no part in its forward pass."""
        shape, options = encoder.config, self.options
        self._encoder = encoder
        if self.how == "tfn":
            self.text_filter = TextFilter(
                *(self.questions, shape.vocabulary_size, shape.hidden_dim, options.filter_units, options.filter_dropout)
            )
            self.text_filter.trainable = False
            model.text_filter = self.text_filter
        elif self.how == "lexical" and options.aspects:
            model.word_weights = self.word_weights = word_weights.WordWeights(len(self.tokenizer.vocabulary), self.questions)

    def take(self, options: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return another model's arrays that fit the weights here, by path; none unless its coarse aspects are the same."""
        layer = self.text_filter or self.word_weights
        wanted = {} if layer is None else {weight.path: tuple(weight.shape) for weight in layer.weights}
        found = tuple(dict.fromkeys(aspect["coarse"] for aspect in options.get("aspects", ())))
        fits = all(path in arrays and arrays[path].shape == shape for path, shape in wanted.items())
        self._taken = bool(wanted) and fits and found == labels.coarse_aspects(self.options.aspects)
        return {path: arrays[path] for path in wanted} if self._taken else {}

    def prepare(self, table: Table) -> Iterator[Stage]:
        """See `kbert.tasks.base.Task`: count words, or train the network on mentions."""
        if self.how != "tfn":
            plain = AspectOptions()
            given = [f.name for f in dataclasses.fields(plain) if f.name.startswith("filter_")]
            given = [name for name in given if getattr(self.options, name) != getattr(plain, name)]
            if given:
                log.warning("--filter=%s ignores %s", self.how, ", ".join(f"--{name}" for name in given))
        if self._taken:
            return
        if self.word_weights is not None:
            self.word_weights.table.assign(self._counted(table))
        if self.text_filter is None:
            return
        assert self._encoder is not None
        self.text_filter.embedding.embeddings.assign(self._encoder.backbone.token_embedding.embeddings)
        self.text_filter.trainable = True
        self.text_filter.embedding.trainable = False
        task = Filtering(self.config, self.tokenizer, self.options, self.text_filter, self._said(table))
        settings = {"epochs": self.options.filter_epochs, "learning_rate": self.options.filter_learning_rate}
        yield Stage(FILTER, task, task.built, settings, None if self.wide else table.deduplicated())
        self.text_filter.trainable = False

    def _counted(self, table: Table) -> np.ndarray:
        """Compute the weights of words from the training rows."""
        aspects, known = self.options.aspects, self.config.labels
        of_texts = self._said(table)

        def texts() -> Iterator[tuple[list[list[int]], np.ndarray]]:
            for raw in rows_of(table if self.wide else table.deduplicated(), self._columns):
                ids = self.tokenizer.tokenize(tf.constant(raw["text"])).to_list()
                found = labels.numbers(raw, aspects, known, wide=True) if of_texts is None else of_texts.of(raw)
                yield ids, labels.mentions(found, aspects, known)

        unknown = self.tokenizer.unknown_id
        own: list[list[int]] = [[] for _ in range(self.questions)]
        readable = tf.constant([f"{aspect.coarse} {aspect.readable}" for aspect in aspects])
        for place, ids in zip(self.coarse_of, self.tokenizer.tokenize(readable).to_list(), strict=True):
            own[place] += [piece for piece in ids if piece != unknown]
        return word_weights.counted(texts(), own, len(self.tokenizer.vocabulary))

    def _said(self, table: Table) -> labels.TextLabels | None:
        """Collect what all rows together say of each text, if each row is about one aspect."""
        return None if self.wide else said(table, self._columns, self.options.aspects, self.config.labels)

    @property
    def _columns(self) -> tuple[str, ...]:
        return (*self.config.fields, *labels.gold_columns(self.options.aspects, self.wide))

    def relevance(self, found: Sentences, texts: tf.Tensor, terms: tf.RaggedTensor) -> tf.Tensor:
        """Score the relevance of each sentence, float32 [sentences, questions].

        Args:
            found: the sentences.
            texts: number of texts.
            terms: the pieces of each text's term, if aspects are not known, int32 [texts, (tokens)].
        """
        if self.how in POSITIONAL:
            return positional_scores(self.how, found.row, texts)
        if not self.options.aspects:
            unknown = self.tokenizer.unknown_id  # never counts as a shared word
            known = terms.with_values(tf.where(terms.values == unknown, -1, terms.values))
            return word_weights.shared(found.token_ids, found.row, known)
        text_filter = self.text_filter
        if text_filter is None:
            assert self.word_weights is not None
            return self.word_weights.scores(found.token_ids)
        logits = in_chunks(
            lambda part: text_filter(part["token_ids"], part["padding_mask"], training=False),
            tf.TensorSpec([None, self.questions], tf.float32),
            filter_inputs(self.tokenizer, found),
            self.tokenizer.pad_id,
            CHUNK_TOKENS,
        )
        return tf.sigmoid(logits)

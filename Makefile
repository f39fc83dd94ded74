# make quickstart   fine-tune, evaluate, export, ask and serve a model, on real text (about 4 minutes on two cores)
# make quickstart-zh  a small Chinese BERT from nothing: vocabulary, pre-training, fine-tuning (about 7 minutes)
# make test         ruff, mypy and pytest
# make docs         the documentation as a site, in site/; a broken link is an error
# These build .venv from the versions pinned in constraints.txt, once.
# make test-beam    the tests of the Beam pipeline, which holds other versions back, in .venv-beam
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart quickstart-zh test test-beam docs clean

quickstart: $(VENV)/.demo
	$(BIN)/python tools/fetch_demo.py
	$(BIN)/kbert finetune --flagfile=configs/quickstart.flags --overwrite
	$(BIN)/kbert evaluate --model_dir=models/quickstart --data=tfds:movie_snippets:test
	$(BIN)/kbert export --model_dir=models/quickstart --export_dir=savedmodels/quickstart
	$(BIN)/kbert ask savedmodels/quickstart "A warm, funny and finally moving little film."
	$(BIN)/kbert serve --export_dir=savedmodels/quickstart --grpc_port=0 & server=$$!; \
	  $(BIN)/python tools/serving_client.py --server=http://127.0.0.1:8501 --model=quickstart --retries=20 "A warm, funny and finally moving little film." "Dull."; \
	  code=$$?; kill $$server; wait $$server && exit $$code

quickstart-zh: $(VENV)/.demo
	$(BIN)/python tools/fetch_demo.py
	$(BIN)/kbert make_vocab --input=.demo/short_reviews_zh.train.txt --output=.demo/short_reviews_zh.vocab.txt --vocab_size=5000 --lowercase
	$(BIN)/kbert pretrain --flagfile=configs/quickstart_zh_pretrain.flags --overwrite
	$(BIN)/kbert finetune --flagfile=configs/quickstart_zh.flags --overwrite
	$(BIN)/kbert finetune --flagfile=configs/quickstart_zh.flags --freeze_layers=0 --model_dir=models/quickstart_zh --overwrite
	$(BIN)/python tools/baselines.py --train_data=tfds:short_reviews_zh:train --test_data=tfds:short_reviews_zh:test --tfds_dir=.demo/tfds --models=models/quickstart_zh_frozen,models/quickstart_zh
	$(BIN)/kbert export --model_dir=models/quickstart_zh --export_dir=savedmodels/quickstart_zh
	$(BIN)/kbert ask savedmodels/quickstart_zh "房间干净，服务也很好。"
	@echo "This BERT has seen 14,000 reviews for minutes. Real use starts from bert_base_zh or another checkpoint: configs/short_reviews_zh.flags"

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test-beam:
	test -e .venv-beam/pyvenv.cfg || $(PYTHON) -m venv .venv-beam
	.venv-beam/bin/python -m pip install --quiet --editable '.[test,beam]'
	.venv-beam/bin/python -m pytest -n 0 tests/test_pretraining_tools.py -k Beam

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; ok = (3, 11) <= v < (3, 14); print("kbert needs Python 3.11 to 3.13; $(PYTHON) is", sys.version.split()[0]) if not ok else None; sys.exit(not ok)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@ $(VENV)/.demo

$(VENV)/.docs: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .venv-beam build site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

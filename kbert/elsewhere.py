"""What other toolkits call kbert's flags: Hugging Face's scripts, google-research/bert, simpletransformers, FARM.

In: a flag that a command does not have. Out: the names that it may have here, or a remark why it has none.
"""

NAMES: dict[str, list[str]] = {
    "init": (
        "model_name_or_path pretrained_model_name_or_path model_name model_path bert_model pretrained_model init_checkpoint "
        "checkpoint bert_path bert_dir bert_model_dir pretrained checkpoint_path"
    ).split(),
    "model_dir": "output_dir out_dir save_dir model_name_or_path model_path checkpoint_dir model output_path ckpt".split(),
    "train_data": "train_file train_path train_dataset train_data_file data_dir dataset_name input_file train".split(),
    "dev_data": (
        "validation_file dev_file eval_file dev_path valid_file val_file eval_data validation_data eval_data_file dev valid val"
    ).split(),
    "test_data": "test_file predict_file test_path test".split(),
    "data": "test_file eval_file test_data dev_data eval_data predict_file test_path input data_dir".split(),
    "input": "input_file predict_file test_file data data_dir texts file".split(),
    "output": "output_file output_path output_dir out output_prediction_file predictions".split(),
    "export_dir": "output_dir export_path output save_dir".split(),
    "text": "sentence query".split(),
    "metrics_out": "output output_file metrics metrics_file".split(),
    "epochs": "num_train_epochs num_epochs max_epochs n_epochs epoch nepochs max_epoch".split(),
    "steps": "max_steps num_train_steps num_steps train_steps total_steps".split(),
    "learning_rate": "lr peak_lr learning_rate_bert bert_lr".split(),
    "warmup_ratio": "warmup_proportion warmup warmup_steps num_warmup_steps".split(),
    "batch_size": (
        "per_device_train_batch_size train_batch_size per_gpu_train_batch_size per_device_batch_size bs bsz batch "
        "eval_batch_size per_device_eval_batch_size predict_batch_size"
    ).split(),
    "accumulation_steps": "gradient_accumulation_steps grad_accum accumulate_grad_batches grad_accumulation_steps".split(),
    "max_length": "max_seq_length max_seq_len max_len model_max_length maxlen seq_length max_sequence_length seq_len".split(),
    "clip_norm": "max_grad_norm gradient_clip_val grad_clip clip max_gradient_norm".split(),
    "weight_decay": "l2 wd weight_decay_rate".split(),
    "decay_power": "lr_scheduler_type lr_scheduler scheduler".split(),
    "dropout": "hidden_dropout_prob dropout_prob dropout_rate attention_probs_dropout_prob".split(),
    "head_dropout": "classifier_dropout classifier_dropout_prob".split(),
    "optimizer": "optim".split(),
    "precision": "fp16 bf16 mixed_precision use_fp16 amp half".split(),
    "overwrite": "overwrite_output_dir overwrite_output force overwrite_cache".split(),
    "freeze_layers": "freeze num_freeze_layers freeze_bert n_freeze frozen_layers".split(),
    "freeze_embeddings": "freeze_embedding".split(),
    "checkpoint_steps": "save_steps save_checkpoints_steps save_freq".split(),
    "evaluate_steps": "eval_steps evaluation_steps logging_steps eval_every".split(),
    "keep_checkpoints": "save_total_limit keep_checkpoint_max max_to_keep".split(),
    "early_stopping_patience": "patience early_stopping early_stop".split(),
    "strategy": "distribution_strategy num_gpus n_gpu use_tpu gpus".split(),
    "labels": "label_list label_file labels_file label_names".split(),
    "text_columns": "text_column text_column_name sentence1_key sentence_column text_col input_columns".split(),
    "label_column": "label_column_name target_column label_col label_columns target labels_column".split(),
    "columns": "column_names names header".split(),
    "delimiter": "sep separator".split(),
    "format": "file_type input_format data_format".split(),
    "seed": "random_seed random_state".split(),
    "doc_stride": "stride".split(),
    "max_question_length": "max_query_length max_question_len".split(),
    "max_answer_length": "max_answer_len".split(),
    "n_best": "n_best_size top_k topk num_answers".split(),
    "decoder": "crf use_crf".split(),
    "mask_rate": "mlm_probability masked_lm_prob mlm_prob".split(),
    "max_predictions": "max_predictions_per_seq".split(),
    "vocab": "vocab_file vocab_path vocabulary".split(),
    "num_layers": "num_hidden_layers".split(),
    "hidden_dim": "hidden_size".split(),
    "num_heads": "num_attention_heads".split(),
    "intermediate_dim": "intermediate_size".split(),
    "pooling": "pooling_mode pooling_strategy".split(),
    "normalize": "normalize_embeddings".split(),
}
CASING = "a checkpoint says itself whether it is uncased"
COMMANDS = "training, kbert evaluate and kbert predict are commands of their own"
DEVICE = "TensorFlow takes the GPUs that it sees; CUDA_VISIBLE_DEVICES chooses among them"
REMARKS = {
    **dict.fromkeys(("do_lower_case", "lower_case", "uncased", "cased", "lowercase", "do_lower"), CASING),
    **dict.fromkeys(("do_train", "do_eval", "do_predict", "mode", "evaluation_strategy", "eval_strategy"), COMMANDS),
    **dict.fromkeys(("device", "gpu", "cuda", "no_cuda", "gpu_id", "use_cuda", "use_gpu"), DEVICE),
    **dict.fromkeys(("num_labels", "num_classes", "n_labels"), "the labels are those of the training rows, or of --labels"),
    **dict.fromkeys(("vocab_file", "tokenizer_name", "tokenizer", "vocab"), "the vocabulary is the checkpoint's own"),
    **dict.fromkeys(("bert_config_file", "config_name", "config_file", "config"), "sizes are read from the checkpoint"),
    **dict.fromkeys(("tb_dir", "logging_dir", "report_to", "log_dir"), "TensorBoard's files are in --model_dir, in tb/"),
}

"""What PyTorch and what is nearest to it writes."""

from __future__ import annotations

from .._described import Described
from .._pointed import Pointed
from .._pointers import Pointer
from .._proofs import AnyOf, Footers, Holds, Marker, Renamed, Settled, Uploaded
from .._shards import Index, Ranks, Stored
from .._signs import Signs

NUMBERED = r"(?:.*(?:[-_=]|step|epoch|iter|iteration|ckpt|checkpoint))?(?P<step>[0-9]+)"
TORCH = rb"PK\x03\x04.*/data\.pkl|\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
SHARDS = r"__[0-9]+_[0-9]+\.distcp"
WHOLE_DCP = (Marker(".metadata"), Holds(SHARDS, "*.distcp"), Uploaded((Stored(),)))

# A zip archive's directory is its end; the copy that a rename between filesystems is grows, too.
# Sharded by FSDP a checkpoint is a directory, in which the first rank writes `meta.pt` last; by
# DeepSpeed one with its tag in `latest`.
# Source: Lightning-AI/pytorch-lightning `src/lightning/pytorch/callbacks/model_checkpoint.py`
# (`_format_checkpoint_name`, `_save_last_checkpoint`, `_link_checkpoint`),
# `src/lightning/fabric/utilities/cloud_io.py` (`_atomic_save`),
# `src/lightning/pytorch/strategies/{fsdp,deepspeed}.py` (`save_checkpoint`).
LIGHTNING = Described(
    name="lightning",
    example="epoch=1-step=1000.ckpt",
    regex=r"(?:.*[^A-Za-z])?step=(?P<step>[0-9]+)(?:[^0-9].*)?\.ckpt|.+\.ckpt",
    links=r"last(-v[0-9]+)?\.ckpt",
    file=(Footers(), Settled()),
    directory=(
        AnyOf(
            (
                (
                    Marker("meta.pt"),
                    Marker(".metadata", stale=True),
                    Holds(SHARDS, "*.distcp"),
                    Uploaded((Stored(),)),
                ),
                (
                    Marker("latest"),
                    Holds(r"checkpoint/.*_states\.pt"),
                    Ranks(r"checkpoint/.*zero_pp_rank_(?P<rank>[0-9]+)_mp_rank_.*\.pt"),
                    Footers(),
                    Settled(),
                ),
            )
        ),
    ),
    data=(SHARDS, r"\.metadata", r"checkpoint/.*_states\.pt"),
    own=(r"meta\.pt", r"latest"),
    signs=Signs(
        "a file of torch.save, meta.pt or *.distcp",
        own=(r"meta\.pt",),
        shared=(SHARDS, r"\.metadata", r"checkpoint/.*_states\.pt"),
        head=TORCH,
    ),
)

# Whatever `torch.save` wrote under a name that says so. What a Trainer saves beside its model is
# none, nor are fairseq's copies and Composer's links.
# Source: pytorch/pytorch `torch/serialization.py` (`save`, `_open_zipfile_writer`).
TORCH_SAVE = Described(
    name="torch",
    example="model_1000.pt",
    regex=r"(?!optimizer|scheduler|scaler|rng_state|random_states|training_args|dataloader"
    r"|checkpoint_?(?:last|best)|checkpoint\.best|latest-rank|latest_train_state)"
    rf"(?:{NUMBERED}|.*(?:model|ckpt|checkpoint|weights|best|last|latest|final).*)\.(?:pt|pth)",
    links=r".*(?:best|last|latest|final).*",
    file=(Footers(), Settled()),
    signs=Signs("a file of torch.save", head=TORCH),
)

# The coordinator writes `.metadata` when all ranks have written; without collectives each rank
# writes one of its own, and nobody the whole one.
# Source: pytorch/pytorch `torch/distributed/checkpoint/filesystem.py` (`FileSystemWriter.finish`,
# `FileSystem.rename`).
DCP = Described(
    name="dcp",
    example="step_1000/.metadata",
    regex=NUMBERED,
    directory=(
        AnyOf(
            (
                WHOLE_DCP,
                (
                    Holds(r"__[0-9]+\.metadata", "__0.metadata"),
                    Ranks(r"__(?P<rank>[0-9]+)\.metadata"),
                    Holds(SHARDS, "*.distcp"),
                    Uploaded((Stored(r"__[0-9]+\.metadata"),)),
                    Settled(),
                ),
            )
        ),
    ),
    data=(SHARDS,),
    own=(r"\.metadata", r"__[0-9]+\.metadata"),
    signs=Signs(
        ".metadata or *.distcp", own=(r"\.metadata",), shared=(SHARDS, r"__[0-9]+\.metadata")
    ),
)

# Either `.metadata` or, in the Hugging Face format, the index; its other backend renames a whole
# directory. torchtitan itself finds `step-10-backup`, too, with the same number twice: that is
# somebody's copy and no new checkpoint.
# Source: pytorch/torchtitan `torchtitan/components/checkpointer/dcp.py` (`_find_load_step`),
# `torch_checkpointing.py`; torch-checkpointing `checkpoint_writer.py` (`_temp_dir_path`).
TORCHTITAN = Described(
    name="torchtitan",
    example="step-1000/.metadata",
    regex=r"step-(?P<step>[0-9]+)",
    directory=(
        AnyOf(
            (
                WHOLE_DCP,
                (
                    Marker("model.safetensors.index.json"),
                    Holds(r".*\.safetensors", "*.safetensors"),
                    Index(),
                ),
                (Marker("metadata.pkl"), Holds(r".*_[0-9]+\.pt", "*_0.pt"), Renamed()),
            )
        ),
    ),
    data=(SHARDS, r".*\.safetensors", r".*_[0-9]+\.pt"),
    own=(r"\.metadata", r"model\.safetensors\.index\.json", r"metadata\.pkl"),
    signs=Signs(
        ".metadata, *.distcp or model.safetensors.index.json",
        own=(r"\.metadata", r"metadata\.pkl"),
        shared=(SHARDS, r"model-[0-9]+-of-[0-9]+\.safetensors", r"model\.safetensors\.index\.json"),
    ),
)

# Written in place, by one rank, or by each its own; sharded, as DCP writes. The link
# `latest-rank0.pt` moves before the old file goes. In a bucket, and where one is mirrored or
# mounted, there is a file with the name instead, `latest-rank0.pt.symlink`, which is uploaded when
# all the rest is there, and not for each. Nothing else is in order there: `.metadata` may come
# before the shards. So where renames are not atomic there must be that file or the link; in a
# mirror of a bucket a directory may look whole before there is the first such file. And if
# checkpoints are uploaded again that file may come before the new ones, because the old ones are
# there.
# Source: mosaicml/composer `composer/callbacks/checkpoint_saver.py` (`_save_checkpoint`),
# `composer/utils/checkpoint.py` (`get_save_filename`, `_write_checkpoint_file`),
# `composer/utils/compression.py` (`KNOWN_COMPRESSORS`), `composer/utils/file_helpers.py`
# (`create_symlink_file`).
COMPOSER = Described(
    name="composer",
    example="ep1-ba1000-rank0.pt",
    regex=r"(?P<stem>ep[0-9]+-ba(?P<step>[0-9]+))"
    r"(?:(?P<part>-rank[0-9]+)(?P<end>\.tgz|\.(?:pt|tar)(?:\.[a-z0-9]+)?))?",
    lead=r"\g<stem>-rank0\g<end>",
    file=(Holds(""), Footers(), Settled(named=True)),
    directory=(*WHOLE_DCP, Pointed(later=True, unless="latest-rank0.pt")),
    data=(SHARDS,),
    own=(r"\.metadata",),
    pointer_file=Pointer("latest-rank0.pt.symlink", paths=True),
    signs=Signs(
        "a file that is not empty, .metadata or *.distcp",
        own=(r"\.metadata",),
        shared=(SHARDS,),
        head=rb".",
    ),
)

# Renamed under its first name only: under all others it is copied in place. `checkpoint_last.pt`
# and `checkpoint_best.pt` are such copies. Shards are loaded by the name without `-rank0`.
# Source: facebookresearch/fairseq `fairseq/checkpoint_utils.py` (`save_checkpoint`,
# `torch_persistent_save`, `get_maybe_sharded_checkpoint_filename`).
FAIRSEQ = Described(
    name="fairseq",
    example="checkpoint_1_1000.pt",
    regex=r"(?P<stem>checkpoint(?:_[0-9]+_(?P<step>[0-9]+)|[0-9]+))"
    r"(?P<part>(?:-(?:rank|shard)-?[0-9]+)+)?\.pt",
    lead=r"\g<stem>.pt",
    file=(Footers(), Settled()),
    signs=Signs("a file of torch.save", head=TORCH),
)

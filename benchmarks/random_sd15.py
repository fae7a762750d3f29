"""Write a random-weight Stable Diffusion 1.x checkpoint in the original single-file layout (for speed and parity checks).

usage: random_sd15.py OUT.safetensors [--tiny] [--seed N]      --tiny keeps every layer but divides the widths by 5 (UNet 64, VAE 32)
"""

import sys, numpy as np
from safetensors.numpy import save_file


def main():
    out = sys.argv[1]
    tiny = "--tiny" in sys.argv
    seed = int(sys.argv[sys.argv.index("--seed") + 1]) if "--seed" in sys.argv else 1
    rng = np.random.default_rng(seed)
    T = {}

    def w(name, *shape, scale=1.0):
        fan = int(np.prod(shape[1:])) or 1
        T[name] = (rng.standard_normal(shape, dtype=np.float32) * scale / np.sqrt(fan)).astype(np.float16)

    def b(name, n):
        T[name] = (rng.standard_normal(n, dtype=np.float32) * 0.02).astype(np.float16)

    def lin(p, i, o, bias=True, scale=1.0):
        w(p + ".weight", o, i, scale=scale)
        if bias:
            b(p + ".bias", o)

    def conv(p, i, o, k=3, scale=1.0):
        w(p + ".weight", o, i, k, k, scale=scale)
        b(p + ".bias", o)

    def norm(p, n):
        T[p + ".weight"] = (1 + rng.standard_normal(n, dtype=np.float32) * 0.05).astype(np.float16)
        b(p + ".bias", n)

    # UNet
    M = 64 if tiny else 320
    ctx = 768
    te = 4 * M
    P = "model.diffusion_model."
    lin(P + "time_embed.0", M, te)
    lin(P + "time_embed.2", te, te)

    def res(p, i, o):
        norm(p + ".in_layers.0", i)
        conv(p + ".in_layers.2", i, o)
        lin(p + ".emb_layers.1", te, o)
        norm(p + ".out_layers.0", o)
        conv(p + ".out_layers.3", o, o, scale=0.5)
        if i != o:
            conv(p + ".skip_connection", i, o, 1)

    def attn(p, c):
        norm(p + ".norm", c)
        conv(p + ".proj_in", c, c, 1)
        t = p + ".transformer_blocks.0"
        for a, kv in (("attn1", c), ("attn2", ctx)):
            lin(f"{t}.{a}.to_q", c, c, False)
            lin(f"{t}.{a}.to_k", kv, c, False)
            lin(f"{t}.{a}.to_v", kv, c, False)
            lin(f"{t}.{a}.to_out.0", c, c, scale=0.5)
        lin(t + ".ff.net.0.proj", c, 8 * c)
        lin(t + ".ff.net.2", 4 * c, c, scale=0.5)
        for n in ("norm1", "norm2", "norm3"):
            norm(f"{t}.{n}", c)
        conv(p + ".proj_out", c, c, 1, scale=0.5)

    mult = (1, 2, 4, 4)
    conv(P + "input_blocks.0.0", 4, M)
    chans = [M]
    ch = M
    n = 1
    for l, m in enumerate(mult):
        for _ in range(2):
            res(f"{P}input_blocks.{n}.0", ch, m * M)
            ch = m * M
            if l < 3:
                attn(f"{P}input_blocks.{n}.1", ch)
            chans.append(ch)
            n += 1
        if l < 3:
            conv(f"{P}input_blocks.{n}.0.op", ch, ch)
            chans.append(ch)
            n += 1
    res(P + "middle_block.0", ch, ch)
    attn(P + "middle_block.1", ch)
    res(P + "middle_block.2", ch, ch)
    n = 0
    for l, m in reversed(list(enumerate(mult))):
        for i in range(3):
            res(f"{P}output_blocks.{n}.0", ch + chans.pop(), m * M)
            ch = m * M
            k = 1
            if l < 3:
                attn(f"{P}output_blocks.{n}.1", ch)
                k = 2
            if l and i == 2:
                conv(f"{P}output_blocks.{n}.{k}.conv", ch, ch)
            n += 1
    norm(P + "out.0", M)
    conv(P + "out.2", M, 4)
    # VAE
    V = "first_stage_model."
    C = 32 if tiny else 128

    def vres(p, i, o):
        norm(p + ".norm1", i)
        conv(p + ".conv1", i, o)
        norm(p + ".norm2", o)
        conv(p + ".conv2", o, o, scale=0.5)
        if i != o:
            conv(p + ".nin_shortcut", i, o, 1)

    def vattn(p, c):
        norm(p + ".norm", c)
        for x in "qkv":
            conv(f"{p}.{x}", c, c, 1)
        conv(p + ".proj_out", c, c, 1, scale=0.5)

    for side in ("encoder", "decoder"):
        S = V + side
        if side == "encoder":
            conv(S + ".conv_in", 3, C)
            ch = C
            for l, m in enumerate(mult):
                for i in range(2):
                    vres(f"{S}.down.{l}.block.{i}", ch, m * C)
                    ch = m * C
                if l < 3:
                    conv(f"{S}.down.{l}.downsample.conv", ch, ch)
        else:
            conv(S + ".conv_in", 4, 4 * C)
            ch = 4 * C
        vres(S + ".mid.block_1", ch, ch)
        vattn(S + ".mid.attn_1", ch)
        vres(S + ".mid.block_2", ch, ch)
        if side == "decoder":
            for l in (3, 2, 1, 0):
                for i in range(3):
                    vres(f"{S}.up.{l}.block.{i}", ch, mult[l] * C)
                    ch = mult[l] * C
                if l:
                    conv(f"{S}.up.{l}.upsample.conv", ch, ch)
        norm(S + ".norm_out", ch)
        conv(S + ".conv_out", ch, 8 if side == "encoder" else 3)
    conv(V + "quant_conv", 8, 8, 1)
    conv(V + "post_quant_conv", 4, 4, 1)
    # CLIP-L
    X = "cond_stage_model.transformer.text_model."
    T[X + "embeddings.token_embedding.weight"] = (rng.standard_normal((49408, 768), dtype=np.float32) * 0.02).astype(np.float16)
    T[X + "embeddings.position_embedding.weight"] = (rng.standard_normal((77, 768), dtype=np.float32) * 0.02).astype(np.float16)
    for i in range(12):
        L = f"{X}encoder.layers.{i}"
        for a in ("q_proj", "k_proj", "v_proj", "out_proj"):
            lin(f"{L}.self_attn.{a}", 768, 768, scale=0.7)
        lin(L + ".mlp.fc1", 768, 3072)
        lin(L + ".mlp.fc2", 3072, 768, scale=0.5)
        norm(L + ".layer_norm1", 768)
        norm(L + ".layer_norm2", 768)
    norm(X + "final_layer_norm", 768)
    acp = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    T["alphas_cumprod"] = acp.astype(np.float32)
    save_file(T, out, metadata={"format": "pt"})
    print(
        len(T),
        "tensors",
        sum(t.nbytes for t in T.values()) / 1e9,
        "GB",
        "UNet params",
        sum(t.size for k, t in T.items() if k.startswith(P)) / 1e6,
        "M",
    )


main()

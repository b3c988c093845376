"""The parts of Sparse4D v3 once more, as PyTorch modules of the real names, in float64.

Written from what the parts compute, on `torch.nn` and `grid_sample`; nothing of jda.
"""

import torch
import torch.nn.functional as F
from torch import nn


def mlp(into: int, out: int, in_loops: int, out_loops: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for _ in range(out_loops):
        for _ in range(in_loops):
            layers += [nn.Linear(into, out), nn.ReLU()]
            into = out
        layers.append(nn.LayerNorm(out))
    return layers


class KeyPoints(nn.Module):
    def __init__(self, embed_dims: int, fixed: int, learned: int):
        super().__init__()
        self.fix_scale = nn.Parameter(torch.randn(fixed, 3) * 0.4, requires_grad=False)
        self.learned = learned
        if learned:
            self.learnable_fc = nn.Linear(embed_dims, learned * 3)

    def forward(self, anchor, feature):
        size = anchor[..., None, 3:6].exp()
        points = self.fix_scale * size
        if self.learned:
            moves = self.learnable_fc(feature).unflatten(-1, (self.learned, 3))
            points = torch.cat([points, (moves.sigmoid() - 0.5) * size], dim=-2)
        turn = torch.zeros(*anchor.shape[:-1], 3, 3, dtype=anchor.dtype)
        sin, cos = anchor[..., 6], anchor[..., 7]
        turn[..., 0, 0], turn[..., 0, 1] = cos, -sin
        turn[..., 1, 0], turn[..., 1, 1] = sin, cos
        turn[..., 2, 2] = 1
        return points @ turn.transpose(-1, -2) + anchor[..., None, :3]


class Layer(nn.Module):
    """The aggregation by grid_sample, with the operator's strict rule at borders."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        c, group = config.embed_dims, config.num_groups
        self.kps_generator = KeyPoints(
            c, len(config.fix_scale), config.num_learnable_pts
        )
        logits = config.num_levels * config.num_pts * group
        if config.use_camera_embed:
            self.camera_encoder = nn.Sequential(*mlp(12, c, 1, 2))
        else:
            logits *= config.num_cams
        self.weights_fc = nn.Linear(c, logits)
        self.output_proj = nn.Linear(c, c)

    def forward(self, feature, anchor, embed, maps, projection_mat, image_wh):
        points = self.kps_generator(anchor, feature)
        points = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
        seen = torch.einsum("bkij,bnpj->bknpi", projection_mat, points)
        locations = seen[..., :2] / seen[..., 2:3].clamp(min=1e-5)
        locations = locations / image_wh[:, :, None, None]
        visible = ((locations > 0) & (locations < 1)).all(dim=-1)
        weight = self.weights(feature + embed, projection_mat, visible)
        weight = weight * visible.permute(0, 2, 1, 3)[:, :, :, None, :, None]
        total = self.aggregate(maps, locations, weight)
        result = self.output_proj(total)
        if self.config.residual_mode == "cat":
            return torch.cat([result, feature], dim=-1)
        return result + feature if self.config.residual_mode == "add" else result

    def aggregate(self, maps, locations, weight):
        """[b, n, c], from locations [b, k, n, p, 2] that are (x, y)."""
        total = torch.zeros(())
        for level, scale in enumerate(maps):
            found = F.grid_sample(
                scale.flatten(0, 1),
                locations.flatten(0, 1) * 2 - 1,
                align_corners=False,
            )
            found = found.unflatten(0, scale.shape[:2])  # [b, k, c, n, p]
            found = found.unflatten(2, (weight.shape[-1], -1))
            total = total + torch.einsum(
                "bkgdnp,bnkpg->bngd", found, weight[:, :, :, level]
            )
        return total.flatten(2)

    def weights(self, feature, projection_mat, visible):
        """[b, n, k, l, p, g]; softmax over k, l and p together."""
        config = self.config
        if config.use_camera_embed:
            camera = self.camera_encoder(projection_mat[:, :, :3].flatten(2))
            feature = feature[:, :, None] + camera[:, None]
        sizes = (config.num_cams, config.num_levels, config.num_pts, config.num_groups)
        logits = self.weights_fc(feature).reshape(*feature.shape[:2], *sizes)
        if config.mask_invisible:
            mask = visible.permute(0, 2, 1, 3)[:, :, :, None, :, None]
            logits = logits.masked_fill(~mask, -1e300)
        return logits.flatten(2, 4).softmax(dim=2).reshape(logits.shape)


class Encoder(nn.Module):
    def __init__(self, pos: int, size: int, yaw: int, vel: int):
        super().__init__()
        self.pos_fc = nn.Sequential(*mlp(3, pos, 1, 4))
        self.size_fc = nn.Sequential(*mlp(3, size, 1, 4))
        self.yaw_fc = nn.Sequential(*mlp(2, yaw, 1, 4))
        self.vel_fc = nn.Sequential(*mlp(3, vel, 1, 4))

    def forward(self, anchor):
        pos, size, yaw, vel = anchor.split([3, 3, 2, 3], dim=-1)
        parts = self.pos_fc(pos), self.size_fc(size), self.yaw_fc(yaw), self.vel_fc(vel)
        return torch.cat(parts, dim=-1)


class FeedForward(nn.Module):
    def __init__(self, into: int, hidden: int, out: int):
        super().__init__()
        self.pre_norm = nn.LayerNorm(into)
        first = nn.Sequential(nn.Linear(into, hidden), nn.ReLU(), nn.Dropout(0.0))
        self.layers = nn.Sequential(first, nn.Linear(hidden, out))
        self.identity_fc = nn.Linear(into, out)

    def forward(self, x):
        x = self.pre_norm(x)
        return self.identity_fc(x) + self.layers(x)


class Attention(nn.Module):
    """With decoupled embedding; `attn` of the real names, `fc_after` of the head."""

    def __init__(self, c: int, heads: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(2 * c, heads, batch_first=True)
        self.fc_after = nn.Linear(2 * c, c, bias=False)

    def forward(self, query, key, value, mask):
        missing = None if mask is None else ~mask
        found, _ = self.attn(query, key, value, key_padding_mask=missing)
        return self.fc_after(query + found)


class Scale(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x * self.scale


class Refinement(nn.Module):
    def __init__(self, c: int, classes: int):
        super().__init__()
        self.layers = nn.Sequential(*mlp(c, c, 2, 2), nn.Linear(c, 11), Scale(11))
        self.cls_layers = nn.Sequential(*mlp(c, c, 1, 2), nn.Linear(c, classes))
        self.quality_layers = nn.Sequential(*mlp(c, c, 1, 2), nn.Linear(c, 2))

    def forward(self, feature, anchor, embed, interval):
        moved = self.layers(feature + embed)
        velocity = moved[..., 8:] / interval[:, None, None] + anchor[..., 8:]
        moved = torch.cat([moved[..., :8] + anchor[..., :8], velocity], dim=-1)
        quality = self.quality_layers(feature + embed)
        return moved, self.cls_layers(feature), quality

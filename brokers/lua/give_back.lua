-- Takes tokens that weren't used out of the counts of the windows they were granted in, where these still run.
-- KEYS and ARGV as in take.lua, then: count, when they were granted
local SECOND, IST = 1000000, 19800000000
local many = tonumber(ARGV[1])
local rest = 2 + 3 * many
local count, at = tonumber(ARGV[rest]), tonumber(ARGV[rest + 1])
for i = 1, many do
  local seconds = tonumber(ARGV[3 * i - 1])
  if seconds > 1 then
    local which = math.floor((at + IST) / (seconds * SECOND))
    if tonumber(redis.call('HGET', KEYS[1], 'w' .. seconds)) == which then
      local used = tonumber(redis.call('HGET', KEYS[1], 'c' .. seconds))
      redis.call('HSET', KEYS[1], 'c' .. seconds, math.max(0, used - count))
    end
  end
end
for i, entry in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local when, granted = string.match(entry, '^(%d+):(%d+)$')
  if tonumber(when) == at then
    redis.call('LSET', KEYS[2], i - 1, string.format('%.0f:%d', at, math.max(0, tonumber(granted) - count)))
    break
  end
end
return {}

-- How far a ModelDeployment is, for Argo CD: docs/gitops.md says where this goes.
-- Argo CD's Lua is 5.1 without the string library. The order of the lines is the policy.

-- What only a person can end. A pause of a step's own ends by itself, and is Progressing.
local waits_for_somebody = { RolloutPaused = true, AnalysisInconclusive = true }

local function verdict(status, condition)
  return { status = status, message = condition.reason .. ": " .. condition.message }
end

local status = obj.status or {}
if status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "The operator has not seen this spec yet" }
end

local holds, said = {}, {}
for _, condition in ipairs(status.conditions) do
  said[condition.type] = condition
  holds[condition.type] = condition.status == "True"
end

if holds.Suspended then
  return verdict("Suspended", said.Suspended)
end
if holds.Stalled then
  return verdict("Degraded", said.Stalled)
end
if holds.Reconciling then
  if holds.Ready and waits_for_somebody[said.Reconciling.reason] then
    return verdict("Suspended", said.Reconciling)
  end
  return verdict("Progressing", said.Reconciling)
end
if holds.Ready and holds.RolledOut then
  return verdict("Healthy", said.RolledOut)
end
if said.Ready ~= nil and said.Ready.reason == "NoPods" then
  return verdict("Suspended", said.Ready)
end
return { status = "Progressing", message = "Waiting for the operator" }
